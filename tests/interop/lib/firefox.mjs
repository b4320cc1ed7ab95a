// Headless Firefox that plays H.264 over WebRTC.
//
// Firefox offers H.264 only with its OpenH264 plug-in, which it downloads from its maker's server at run time. Tests do
// not depend on that: a folder that describes the plug-in makes it offer H.264, and the decoder is the system's
// libavcodec, as for any other video. So what is tested is Firefox's SDP, ICE, DTLS, SRTP, RTCP and jitter buffer, and
// not OpenH264.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const EXECUTABLE = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
const PREFERENCES = {
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.gmp-gmpopenh264.enabled': true,
  'media.gmp-manager.updateEnabled': false,
  'media.navigator.mediadatadecoder_h264_enabled': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  // There is no sound card; a missing one must not stop the clock of the picture.
  'media.cubeb.backend': 'null',
};

/** Starts it; ends with the world. */
export async function launchFirefox(world) {
  const plugin = describePlugin(join(world.folder, 'gmp-gmpopenh264', '1.0'));
  const { PATH, HOME, TMPDIR } = process.env;
  const env = { PATH, HOME, TMPDIR, MOZ_GMP_PATH: plugin, MOZ_DISABLE_CONTENT_SANDBOX: '1' };
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: EXECUTABLE, headless: true, extraPrefsFirefox: PREFERENCES, env });
  world.adopt({ stop: () => browser.close(), describe: () => '--- firefox' });
  return browser;
}

function describePlugin(folder) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'gmpopenh264.info'), [
    'Name: gmpopenh264',
    'Description: stands in for OpenH264',
    'Version: 1.0',
    'APIs: encode-video[h264], decode-video[h264]',
    '',
  ].join('\n'));
  writeFileSync(join(folder, 'libgmpopenh264.so'), '');
  return folder;
}
