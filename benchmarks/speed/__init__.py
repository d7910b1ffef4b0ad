"""Speed against other packages."""
