"""The HTTP half of WHEP, and how a client reports."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request


def say(event, **more):
    """One line of JSON a fact; the test reads them."""
    print(json.dumps({"event": event, **more}), flush=True)


def post(url, offer):
    """Sends an offer; gives the answer and the URL of the session."""
    say("offer", sdp=offer)
    request = urllib.request.Request(url, offer.encode(), {"Content-Type": "application/sdp"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = response.read().decode()
            session = urllib.parse.urljoin(url, response.headers["Location"])
            say("answer", sdp=answer, status=response.status, etag=response.headers["ETag"])
            return answer, session
    except urllib.error.HTTPError as error:
        say("refused", status=error.code, text=error.read().decode())
        sys.exit(1)


def delete(session):
    """Ends a session."""
    request = urllib.request.Request(session, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as response:
        say("deleted", status=response.status)
