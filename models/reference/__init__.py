"""Makes the drift reference of a release from data and a declaration of its signals; recipes and users take the same way."""
