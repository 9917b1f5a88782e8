"""Pages of HTML that stand alone: styles and plots are inside, nothing is fetched."""
