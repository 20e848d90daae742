'use strict';

module.exports = require('./build/Release/seal.node');
