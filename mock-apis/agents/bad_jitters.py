"""Breaks the rule jitters, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def jitter(self, attempt):
        return 0


main(Bad)
