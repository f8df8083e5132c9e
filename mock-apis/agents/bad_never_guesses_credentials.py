"""Breaks the rule never_guesses_credentials, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    def refused(self, service, method, path):
        known, self.token = self.token, "admin"
        self.once(service, method, path)
        self.token = known


main(Bad)
