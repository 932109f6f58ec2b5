"""Images, embeddings and models at rest: the image set, and the data sets of the catalog."""
