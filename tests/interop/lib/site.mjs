// A camera that streams, and where its WHEP endpoint is.

import { networkInterfaces } from 'node:os';
import { until } from '../../browser/lib/until.mjs';

/** Many stacks use no loopback address, so the machine's own one is a candidate too. */
function ownAddress() {
  const all = Object.values(networkInterfaces()).flat();
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

/** `onDemand`: the first viewer starts the stream. */
export async function site(world, { onDemand = false } = {}) {
  const { server, id } = await world.site({ env: { EXTERNAL_IP: ownAddress(), START_ON_DEMAND: String(onDemand) } });
  if (!onDemand) {
    await server.start(id);
    await until('packets arrive', async () => (await server.get(`/streams/${id}`)).body.stream.media.state === 'flowing');
  }
  return {
    server,
    id,
    whep: `${server.api}/whep/${id}`,
    nobodyWatches: () => until('the viewer is gone', async () => (await server.viewerCount(id)) === 0),
  };
}
