'use strict';

// POST /seal     the body, encrypted
// POST /receipt  a signature over the body, for the partner
// GET  /healthz  204

const http = require('node:http');
const { seal, signReceipt } = require('@acme/seal');
const config = require('./config/production.json');

const routes = { '/seal': seal, '/receipt': signReceipt };

function read(request, limit) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let length = 0;
    request.on('data', (chunk) => {
      length += chunk.length;
      if (length > limit) reject(new RangeError('the body is too long'));
      else chunks.push(chunk);
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
  });
}

async function answer(request, response) {
  if (request.method === 'GET' && request.url === '/healthz') return response.writeHead(204).end();
  const route = Object.hasOwn(routes, request.url) ? routes[request.url] : undefined;
  if (request.method !== 'POST' || route === undefined) return response.writeHead(404).end();
  try {
    const body = await read(request, config.maxBodyBytes);
    return response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(route(body));
  } catch (error) {
    return response.writeHead(error instanceof RangeError ? 413 : 500).end();
  }
}

http.createServer(answer).listen(config.port);
