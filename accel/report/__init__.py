"""What is told to people of networks, programs and runs."""
