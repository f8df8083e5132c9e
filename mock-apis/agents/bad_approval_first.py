"""Breaks the rule approval_first, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def approval(self, amount):
        super().approval(amount)
        return "approval-made-up"


main(Bad)
