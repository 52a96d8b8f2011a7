"""Tables of measured figures, a module for every document that shows them."""
