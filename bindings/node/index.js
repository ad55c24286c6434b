// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const { AlknetError } = require('./lib/errors');
const { connect, Session } = require('./lib/session');
const { serve, Server } = require('./lib/server');
const { AlknetStream } = require('./lib/stream');
const { createEventTarget, AlknetEvent, AlknetEventTarget, CallError } = require('./event-target');

module.exports = {
	connect, serve, createEventTarget,
	AlknetError, AlknetEvent, AlknetEventTarget, AlknetStream, CallError, Server, Session,
};
