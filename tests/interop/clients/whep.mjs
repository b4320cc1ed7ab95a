// The HTTP half of WHEP, and how a client reports.

/** One line of JSON a fact; the test reads them. */
export function say(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

/** Sends an offer; gives the answer and the URL of the session. */
export async function post(url, offer) {
  say('offer', { sdp: offer });
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: offer });
  const text = await response.text();
  if (response.status !== 201) {
    say('refused', { status: response.status, text });
    process.exit(1);
  }
  say('answer', { sdp: text, status: response.status, etag: response.headers.get('etag') });
  return { answer: text, session: new URL(response.headers.get('location'), url) };
}

/** Ends a session. */
export async function remove(session) {
  const response = await fetch(session, { method: 'DELETE' });
  say('deleted', { status: response.status });
}

/** Counts what comes out of a depacketiser: access units and NAL units by type. */
export class Units {
  constructor(wanted, enough) {
    Object.assign(this, { frames: 0, types: {}, wanted, enough });
  }

  /** One NAL unit, without start code. */
  unit(nal) {
    const type = nal[0] & 0x1f;
    this.types[type] = (this.types[type] ?? 0) + 1;
    if (type === 7) this.sps = Buffer.from(nal).toString('hex');
  }

  /** The marker bit: an access unit is complete. */
  frameEnds() {
    this.frames += 1;
    // 5: IDR picture; 7 and 8: the sets that it needs.
    if (this.frames >= this.wanted && [5, 7, 8].every((type) => this.types[type])) {
      this.enough({ frames: this.frames, types: this.types, sps: this.sps });
    }
  }
}
