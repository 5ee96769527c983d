"""Of one page's requests for the same thing the newest counts."""

import threading

from lib_finetune.ui.latest_only import LatestOnly


def test_only_the_newest_request_of_a_page_goes_through():
    latest_only, page, inside, done = LatestOnly(), {}, threading.Event(), []

    def ask(number, gate=None):
        with latest_only.newest(page) as newest:
            if gate:
                inside.set()
                gate.wait(30)
            done.append((number, newest))

    gate = threading.Event()
    threads = [threading.Thread(target=ask, args=(1, gate))]
    threads[0].start()
    assert inside.wait(30)
    for number in (2, 3):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while latest_only._asked[id(page)] < number:
            pass
    gate.set()
    for thread in threads:
        thread.join()
    assert done[0] == (1, True) and dict(done)[3] is True and dict(done)[2] is False
