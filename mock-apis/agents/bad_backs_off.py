"""Breaks the rule backs_off, and no other."""

import time

from travel_agent import Agent, main


class Bad(Agent):
    def pause(self, attempt):
        time.sleep((0.3, 0.5, 0.2)[attempt])


main(Bad)
