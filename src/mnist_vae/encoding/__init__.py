"""Images to q, in the process of the run or on Dask distributed."""
