"""How often drift is seen where there is none, how soon where there is some, and how true the estimated accuracy is."""
