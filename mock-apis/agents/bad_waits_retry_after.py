"""Breaks the rule waits_retry_after, and no other."""

import time

from travel_agent import Agent, main


class Bad(Agent):
    def retry_after(self, seconds):
        time.sleep(seconds / 10)


main(Bad)
