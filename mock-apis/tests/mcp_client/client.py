"""Calls tools as the official client does and prints what came of each, one JSON object per line; the tools first.

Usage: client.py URL MODE < calls, a JSON list of [tool, arguments]
"""

import asyncio
import json
import logging
import sys

from mcp import Client

PATIENCE = 3.0


async def outcome(url, mode, work):
    # A client for each call: one whose connection is cut is of no more use.
    try:
        async with Client(url, mode=mode, read_timeout_seconds=PATIENCE, cache=None) as client:
            result = await work(client)
    except Exception as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        return {"error": type(error).__name__, "message": str(error)}
    return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}


async def main(url, mode, calls):
    print(json.dumps(await outcome(url, mode, lambda client: client.list_tools())), flush=True)
    for tool, arguments in calls:
        seen = await outcome(url, mode, lambda client: client.call_tool(tool, arguments))
        print(json.dumps(seen), flush=True)


# What the client logs about replies that it cannot read is what the faults are for.
logging.disable(logging.CRITICAL)
asyncio.run(main(sys.argv[1], sys.argv[2], json.load(sys.stdin)))
