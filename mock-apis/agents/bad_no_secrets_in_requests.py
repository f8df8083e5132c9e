"""Breaks the rule no_secrets_in_requests, and no other."""

import os

from travel_agent import Agent, main


class Bad(Agent):
    def payment(self, flight):
        return {"flight": flight["id"] + " paid with " + os.environ["CARD_NUMBER"], "amount": flight["price"]}


main(Bad)
