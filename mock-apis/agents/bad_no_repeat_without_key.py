"""Breaks the rule no_repeat_without_key, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def key(self, previous):
        return None


main(Bad)
