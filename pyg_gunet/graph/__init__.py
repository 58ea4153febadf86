"""What flows through a model: levels, the graphs on them and the transfers between them."""
