'use strict';

const { port } = require('./config/production.json');

require('node:http')
  .get({ port, path: '/healthz' }, (response) => process.exit(response.statusCode === 204 ? 0 : 1))
  .on('error', () => process.exit(1));
