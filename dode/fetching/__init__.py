"""How a card's checkpoint gets to its place: from the cache or by URL, verified."""
