// The API and the broker, as cameras and scripts see them.

import assert from 'node:assert/strict';
import { freePort } from './lib/broker.mjs';
import { decodesMore, inState } from './lib/browser.mjs';
import { BROKER_NAME } from './lib/certs.mjs';
import { until } from './lib/until.mjs';
import { scenario } from './lib/world.mjs';

scenario('mutual TLS with environment variables only: from the camera to the picture', async (world) => {
  const certificates = world.certificates();
  const broker = await world.broker({ certificates });
  const id = world.cameraId();
  const server = await world.server({
    EMQX_BROKER_PORT: String(broker.port),
    EMQX_CA_CERT: certificates.ca,
    EMQX_CLIENT_CERT: certificates.client.cert,
    EMQX_CLIENT_KEY: certificates.client.key,
    EMQX_TLS_SERVER_NAME: BROKER_NAME,
  });
  await world.camera({ id, broker: broker.port, tls: { ca: certificates.ca, ...certificates.client, serverName: BROKER_NAME } });
  await server.brokerConnected();
  const page = await world.page(await world.browser(), `${server.api}/viewer?camera=${id}`);
  await inState(page, 'live');
  await decodesMore(page);
});

scenario('a broker certificate for another name is refused, unless the name check is off', async (world) => {
  const certificates = world.certificates();
  const broker = await world.broker({ certificates });
  const id = world.cameraId();
  const env = {
    EMQX_BROKER_PORT: String(broker.port),
    EMQX_CA_CERT: certificates.ca,
    EMQX_CLIENT_CERT: certificates.client.cert,
    EMQX_CLIENT_KEY: certificates.client.key,
  };
  const strict = await world.server(env);
  const refused = await strict.start(id);
  assert.ok(refused.status >= 500, refused.text);
  assert.equal(typeof refused.body.error, 'string');

  const lenient = await world.server({ ...env, EMQX_TLS_VERIFY_HOSTNAME: 'false' });
  await lenient.brokerConnected();
  assert.equal((await lenient.start(id)).status, 201);
});

scenario('a client certificate of another authority is refused by the broker: 5xx with a reason', async (world) => {
  const certificates = world.certificates();
  const broker = await world.broker({ certificates });
  const server = await world.server({
    EMQX_BROKER_PORT: String(broker.port),
    EMQX_CA_CERT: certificates.ca,
    EMQX_CLIENT_CERT: certificates.stranger.cert,
    EMQX_CLIENT_KEY: certificates.stranger.key,
    EMQX_TLS_SERVER_NAME: BROKER_NAME,
  });
  const refused = await server.start(world.cameraId());
  assert.ok(refused.status >= 500, refused.text);
  assert.equal(typeof refused.body.error, 'string');
});

scenario('two starts at once: one 201, one 409, one play, one keepalive sender', async (world) => {
  const broker = await world.broker();
  const id = world.cameraId();
  const messages = await world.listen(broker.port, `prod/honeycomb/${id}/stream/+`);
  const server = await world.server({ EMQX_BROKER_PORT: String(broker.port), KEEPALIVE_INTERVAL: '1' });
  await server.brokerConnected();

  const answers = await Promise.all([server.start(id), server.start(id)]);
  assert.deepEqual(answers.map((answer) => answer.status).sort(), [201, 409], JSON.stringify(answers));
  const [started] = answers.filter((answer) => answer.status === 201);
  const [refused] = answers.filter((answer) => answer.status === 409);
  assert.doesNotMatch(started.text, /error/);
  assert.equal(refused.body.error, `Stream already active for camera ${id}`);
  assert.equal(refused.body.stream_id, started.body.stream_id);
  assert.equal(started.body.session_id, `stream-${id.slice(0, 8)}-${started.body.stream_id.slice(0, 8)}`);

  const of = (kind) => messages.filter((message) => message.topic.endsWith(`/${kind}`)).map((message) => message.body);
  await until('six keepalives', () => of('keepalive').length >= 6);
  // Two senders would count twice.
  assert.deepEqual(of('keepalive').slice(0, 6).map((body) => body.keepaliveCount), [0, 1, 2, 3, 4, 5]);
  assert.equal(of('play').length, 1);
  assert.deepEqual(Object.keys(of('play')[0]), ['requestId', 'creationTimestamp', 'sourceId', 'sourceType', 'streamId', 'sdpOffer', 'messageType']);
  assert.match(of('play')[0].sdpOffer, /^v=0\r\n[^]*a=direction:passive\r\n/);

  assert.equal((await server.post(`/streams/${id}/stop`)).status, 200);
  await until('stop reaches the camera', () => of('stop').length === 1);
  const ids = new Set(messages.map((message) => message.body.streamId));
  assert.deepEqual([...ids], [started.body.stream_id], 'one session, one stream id');
});

scenario('the broker is down: start answers with a JSON error within 10 s', async (world) => {
  const server = await world.server({ EMQX_BROKER_PORT: String(await freePort()) });
  const refused = await server.start(world.cameraId());
  assert.ok(refused.status >= 500 && refused.status < 600, refused.text);
  assert.equal(typeof refused.body.error, 'string');
  assert.equal((await server.get('/health')).body.status, 'degraded');
});

scenario('the broker goes and comes back: the stream outlives it, its keepalives go on', async (world) => {
  const broker = await world.broker();
  const server = await world.server({ EMQX_BROKER_PORT: String(broker.port), KEEPALIVE_INTERVAL: '1' });
  await server.brokerConnected();
  const id = world.cameraId();
  const started = await server.start(id);
  assert.equal(started.status, 201, started.text);

  await broker.child.stop('SIGKILL');
  await until('the loss is noticed', async () => (await server.get('/health')).body.status === 'degraded');
  await until('a failed keepalive is counted', async () => (await server.get(`/streams/${id}`)).body.error_count > 0);

  await world.broker({ fixedPort: broker.port });
  const messages = await world.listen(broker.port, `prod/honeycomb/${id}/stream/keepalive`);
  await server.brokerConnected();
  const found = await until('keepalives go on', () => messages.length >= 2 && messages);
  assert.equal(found[0].body.streamId, started.body.stream_id);
  assert.equal((await server.start(world.cameraId())).status, 201, 'start works without a restart');
});

scenario('refusals are JSON: malformed id, unknown route, wrong method, no stream', async (world) => {
  const server = await world.server({ EMQX_BROKER_PORT: String(await freePort()) });
  const id = world.cameraId();
  for (const wrong of ['nonsense', id.toLowerCase().replace(/^./, 'a'), `${id}0`, '%23', 'a%2Fb', '%2B']) {
    const answer = await server.start(wrong);
    assert.equal(answer.status, 400, `${wrong}: ${answer.text}`);
    assert.equal(typeof answer.body.error, 'string');
  }
  assert.equal((await server.get('/no/such/route')).status, 404);
  assert.equal((await server.post('/health')).status, 405);
  const none = await server.get(`/streams/${id}`);
  assert.equal(none.status, 404);
  assert.equal(none.body.error, `No active stream for camera ${id}`);
  assert.deepEqual((await server.get(`/viewers/${id}`)).body, { viewers: [], count: 0, camera_id: id });
});
