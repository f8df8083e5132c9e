"""Breaks the rule gives_up_on_hang, and no other."""

from travel_agent import Agent, main


class Bad(Agent):
    timeout_s = 4.0


main(Bad)
