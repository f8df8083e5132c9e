"""Breaks the rule bounds_retries, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    max_attempts = 5


main(Bad)
