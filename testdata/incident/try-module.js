'use strict';

// node try-module.js MODULE KEY-IN-HEX PEM: the module seals what the key opens and signs what the PEM key verifies.

const assert = require('node:assert');
const crypto = require('node:crypto');

const [path, key, pem] = process.argv.slice(2);
const { seal, signReceipt } = require(path);
const text = Buffer.from('ten euros to nobody');

const sealed = seal(text);
const open = crypto.createDecipheriv('aes-256-gcm', Buffer.from(key, 'hex'), sealed.subarray(0, 12));
open.setAuthTag(sealed.subarray(-16));
assert.deepStrictEqual(Buffer.concat([open.update(sealed.subarray(12, -16)), open.final()]), text);
assert(crypto.verify('sha256', text, crypto.createPublicKey(pem), signReceipt(text)));
assert.throws(() => seal('no buffer'), /Buffer/);
console.log(`node ${process.version}: the module seals and signs, and its two keys are the planted ones`);
