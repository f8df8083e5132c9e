"""Breaks the rule same_key_on_retry, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def key(self, previous):
        return super().key(None)


main(Bad)
