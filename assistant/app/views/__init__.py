"""The views of the page as HTML and tables: what is shown, from what was found."""
