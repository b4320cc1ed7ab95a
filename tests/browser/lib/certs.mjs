// A private CA, a broker certificate and a client certificate, as a site with mutual TLS has them.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The only name in the broker's certificate; not the address that clients connect to. */
export const BROKER_NAME = 'broker.example';

/** Makes the files in `folder` and gives their paths. */
export function makeCertificates(folder) {
  const at = (name) => join(folder, name);
  const authority = makeAuthority(folder, 'ca');
  const stranger = makeAuthority(folder, 'stranger-ca');
  return {
    ca: authority.cert,
    server: issue(folder, authority, 'server', `/CN=${BROKER_NAME}`, `subjectAltName=DNS:${BROKER_NAME}\nextendedKeyUsage=serverAuth`),
    client: issue(folder, authority, 'client', '/CN=honeycast', 'extendedKeyUsage=clientAuth'),
    stranger: issue(folder, stranger, 'stranger', '/CN=honeycast', 'extendedKeyUsage=clientAuth'),
    at,
  };
}

function makeAuthority(folder, name) {
  const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
  openssl('req', '-x509', ...newKey(key), '-days', '2', '-subj', `/CN=Test ${name}`, '-out', cert,
    '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
  return { key, cert };
}

function issue(folder, authority, name, subject, extensions) {
  const [key, request, cert, ext] = ['key', 'csr', 'pem', 'ext'].map((end) => join(folder, `${name}.${end}`));
  openssl('req', '-new', ...newKey(key), '-subj', subject, '-out', request);
  writeFileSync(ext, `basicConstraints=CA:FALSE\n${extensions}\n`);
  openssl('x509', '-req', '-in', request, '-CA', authority.cert, '-CAkey', authority.key, '-CAcreateserial',
    '-days', '2', '-extfile', ext, '-out', cert);
  return { key, cert };
}

function newKey(file) {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', file];
}

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
