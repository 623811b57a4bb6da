"""What the source documents print, typed by hand from them. Nothing that builds a plan may import this package."""
