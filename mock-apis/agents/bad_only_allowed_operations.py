"""Breaks the rule only_allowed_operations, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def extras(self):
        self.once("payments", "DELETE", "/payments/pay-1")


main(Bad)
