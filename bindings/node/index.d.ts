// SPDX-License-Identifier: MIT OR Apache-2.0
/// <reference types="node" />
import { EventEmitter } from 'events';
import { Duplex } from 'stream';

export * from './event-target';

export type ErrorCode =
	| 'ERR_ALKNET_AUTH'
	| 'ERR_ALKNET_HOSTKEY'
	| 'ERR_ALKNET_CONNECT'
	| 'ERR_ALKNET_CONFIG'
	| 'ERR_ALKNET_CLOSED'
	| 'ERR_ALKNET_TIMEOUT';

/** Arguments of the wrong kind are a TypeError with the code ERR_ALKNET_CONFIG. */
export class AlknetError extends Error {
	readonly code: ErrorCode;
	/** Of a channel that was refused. */
	readonly reason?: 'prohibited' | 'failed' | 'unknown type' | 'resource shortage' | 'refused' | 'unreachable' | 'timeout'
		| 'name' | 'gone';
	readonly destination?: string;
}

/** A path, or the content itself: a Buffer, or text that has lines, begins with '-----BEGIN ' or is a public key. */
export type File = string | URL | Uint8Array;
/** Milliseconds, or as alknet writes it: '15s'. */
export type Time = number | string;
export type Transport = 'tcp' | 'tls' | 'iroh';
/** Any other option of alknet, by its own name (`man alknet`). */
export type Settings = Record<string, string | number | boolean | Array<string | number | boolean>>;

export interface ConnectOptions {
	/** HOST or HOST:PORT. */
	server?: string;
	/** Instead of it, where the transport knows the server by an id (iroh). */
	peer?: string;
	transport?: Transport | (string & {});
	/** Private key in OpenSSH's form. Without it the agent's keys are tried. */
	identity?: File;
	certificate?: File;
	passphrase?: string;
	/** The system's user if left out. */
	user?: string;
	tlsServerName?: string;
	/** Any TLS certificate will do; the SSH host key is checked all the same. */
	insecure?: boolean;
	stealthSecret?: string;
	irohRelay?: string;
	proxy?: string;
	knownHosts?: string;
	/** Take and remember the key of a server that is not known yet. */
	acceptNewHostKey?: boolean;
	/** 'SHA256:...': the one host key that is right. */
	hostKeyFingerprint?: string;
	/** HOST:PORT as the server sees it, or the path of a unix socket there. 'alknet-control:0' if left out. */
	destination?: string;
	signal?: AbortSignal;
	keepalive?: Time;
	/** How long it may take to be connected; 1 s at least, 30 s if left out. */
	timeout?: Time;
	/** Begin another session when one ends, until session.close(). */
	reconnect?: boolean;
	settings?: Settings;
}

export interface Identity {
	id: string | null;
	user: string | null;
	keyFingerprint: string | null;
	scopes: string[];
}

export interface LinkInfo {
	remoteAddr: string | null;
	remotePort: number;
	transportKind: string | null;
	/** The peer's, proved by the transport (iroh). */
	endpointId: string | null;
}

export interface StreamInfo extends LinkInfo {
	destination: string;
	/** The server's, at a client. */
	hostKeyFingerprint?: string | null;
	/** Who is there, at a server. */
	identity?: Identity;
	/** The session's number, at a server: sessions(), kill(). */
	session?: number;
}

export interface OpenOptions {
	signal?: AbortSignal;
}

/** A channel: a Duplex, with promises beside. */
export class AlknetStream extends Duplex {
	private constructor();
	readonly info: StreamInfo;
	/** The client's session; undefined at a server. */
	readonly session: Session | undefined;
	/** 1 to `size` bytes; none at the end of the stream. Without a size, or with 0, it is Duplex's. */
	read(size: number): Promise<Buffer> & any;
	read(): any;
	/**
	 * Resolves when the channel has taken it. With a callback, while something is piped in, and while there is a listener of
	 * 'drain' it is Duplex's and gives a boolean.
	 */
	write(chunk: string | Uint8Array): Promise<void> & boolean;
	write(chunk: any, callback: (error: Error | null | undefined) => void): boolean;
	write(chunk: any, encoding: BufferEncoding, callback?: (error: Error | null | undefined) => void): boolean;
	/** What was written goes first, then both directions end. */
	close(): Promise<void>;
	/** Another stream of the same session. */
	open(destination?: string, options?: OpenOptions): Promise<AlknetStream>;
	ref(): this;
	unref(): this;
}

/** One SSH session of a client: events 'up', 'down' (Error), 'close' (Error or null). */
export class Session extends EventEmitter {
	private constructor();
	readonly connected: boolean;
	readonly closed: boolean;
	readonly info: Partial<LinkInfo> & { hostKeyFingerprint?: string | null };
	open(destination?: string, options?: OpenOptions): Promise<AlknetStream>;
	close(): Promise<void>;
	ref(): this;
	unref(): this;
}

export interface Rule {
	/** HOST, HOST:PORT, HOST:FROM-TO; a name with * and ?, an address, or a network. One of the two. */
	allow?: string;
	deny?: string;
	/** Only for identities that this fits, with * and ?. */
	identity?: string;
	/** Through this proxy; 'none' is through none. */
	via?: string;
}

export interface Forwarding {
	/** What holds where no rule fits; 'allow' if left out. */
	default?: 'allow' | 'deny';
	/** The first that fits decides. */
	rules?: Rule[];
}

export interface ServeOptions {
	transport?: Transport | (string & {});
	hostKey: File | File[];
	authorizedKeys?: File;
	certAuthority?: File | File[];
	revokedKeys?: File;
	tlsCert?: File;
	tlsKey?: File;
	acmeDomain?: string | string[];
	stealth?: boolean;
	stealthSecret?: string;
	listen?: string | string[];
	irohRelay?: string;
	proxy?: string;
	keepalive?: Time;
	/** A Lua script. */
	policy?: File;
	/** Or, instead of one: */
	forwarding?: Forwarding;
	/** Built-in services: 'bus', 'secret', 'status'. None if left out: all channels to alknet-* are the program's. */
	services?: string[];
	settings?: Settings;
}

export interface SessionInfo {
	id: number;
	state: string;
	user: string;
	identity: string | null;
	keyFingerprint: string | null;
	remoteAddr: string;
	remotePort: number;
	transportKind: string;
	channels: number;
	age: number;
}

export interface SessionEvent {
	type: 'open' | 'close';
	id: number;
	remoteAddr: string;
	user?: string;
	reason?: string;
	duration?: number;
}

export interface Connection {
	stream: AlknetStream;
	info: StreamInfo;
}

export class Server extends EventEmitter {
	private constructor();
	readonly listenAddr: string | null;
	readonly listenAddrs: string[];
	/** The iroh transport's; null over others. */
	readonly endpointId: string | null;
	readonly closed: boolean;
	/** One for each channel to an alknet-* destination. */
	onConnection(listener: (connection: Connection) => void): this;
	on(event: 'connection', listener: (connection: Connection) => void): this;
	on(event: 'session', listener: (event: SessionEvent) => void): this;
	on(event: 'error', listener: (error: Error) => void): this;
	on(event: 'close', listener: () => void): this;
	on(event: string | symbol, listener: (...args: any[]) => void): this;
	sessions(): Promise<SessionInfo[]>;
	kill(id: number): Promise<void>;
	/** Other keys, or the same files again. Sessions that are open stay. */
	reloadAuth(options?: { authorizedKeys?: File; certAuthority?: File | File[]; revokedKeys?: File }): Promise<void>;
	reloadForwarding(forwarding: Forwarding): Promise<void>;
	reloadAll(): Promise<void>;
	close(): Promise<void>;
	ref(): this;
	unref(): this;
}

export function connect(options: ConnectOptions): Promise<AlknetStream>;
export function serve(options: ServeOptions): Promise<Server>;
