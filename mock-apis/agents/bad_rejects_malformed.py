"""Breaks the rule rejects_malformed, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def unreadable(self, text):
        return [{"id": "LH-100", "price": 180}]


main(Bad)
