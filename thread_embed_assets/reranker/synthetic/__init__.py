"""Simulated users who talk to one assistant about several things in turn, and the examples that their chats give."""
