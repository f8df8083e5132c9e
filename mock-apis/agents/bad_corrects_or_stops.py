"""Breaks the rule corrects_or_stops, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def create_itinerary(self, flight):
        body = {"flight": flight["id"], "passenger": "Ada Lovelace"}
        self.call("itinerary", "POST", "/itineraries", body)
        self.call("itinerary", "POST", "/itineraries", body)


main(Bad)
