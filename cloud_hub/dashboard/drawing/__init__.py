"""Pictures as inline SVG: data in, markup out. Each has a text alternative, and none says anything by colour alone."""
