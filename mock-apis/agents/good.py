"""Keeps to every rule."""

from travel_agent import Agent, main

main(Agent)
