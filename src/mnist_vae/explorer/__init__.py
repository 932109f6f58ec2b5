"""`kedro explore`: a page to move in the latent space; both networks run in the browser."""
