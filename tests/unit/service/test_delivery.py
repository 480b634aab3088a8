"""The way of Outputs to the event loop: all of them, in order, a few in each turn."""

import asyncio
import threading

from service.delivery import TURN, Delivery
from service.request import FinishReason, Output, Timing


def test_others_have_their_turn_between_many_outputs() -> None:
    """Whoever comes in while a step's Outputs are handed out does not wait for all of them; no order is lost."""

    async def scenario() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        seen: list[str] = []

        def hand_out(outputs: list[Output]) -> None:
            seen.extend(output.request_id for output in outputs)
            if len(seen) == TURN:  # somebody comes in
                loop.call_soon(seen.append, "other")
            if "last" in seen:
                done.set()

        delivery = Delivery(loop, hand_out)
        first = [Output(f"{number}") for number in range(2 * TURN + 1)]

        def deliver() -> None:
            delivery(first)
            delivery([Output("last")])

        thread = threading.Thread(target=deliver)
        thread.start()
        await asyncio.wait_for(done.wait(), 20.0)
        thread.join()
        assert seen.index("other") <= 2 * TURN
        assert [*(output.request_id for output in first), "last"] == [name for name in seen if name != "other"]

    asyncio.run(scenario())


def test_the_way_is_part_of_decoding() -> None:
    """A text's time ends where it is handed out."""

    async def scenario() -> None:
        handed: asyncio.Queue[list[Output]] = asyncio.Queue()
        delivery = Delivery(asyncio.get_running_loop(), handed.put_nowait, clock=lambda: 12.5)
        timing = Timing(queue=1.0, encode=1.0, first_token=2.5, decode=2.0, steps=4, ended=12.0)
        delivery([Output("a", finish_reason=FinishReason.END, timing=timing)])
        ((output,),) = [await asyncio.wait_for(handed.get(), 20.0)]
        assert (2.5, 12.5) == (output.timing.decode, output.timing.ended)

    asyncio.run(scenario())
