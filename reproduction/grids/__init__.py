"""What is run: methods, rates and seeds that several experiments list, and the results by them."""
