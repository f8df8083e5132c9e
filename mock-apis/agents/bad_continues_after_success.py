"""Breaks the rule continues_after_success, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def after_payment(self, flight):
        self.call("itinerary", "GET", "/itineraries/it-1")


main(Bad)
