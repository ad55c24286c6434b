// SPDX-License-Identifier: MIT OR Apache-2.0

/** What the bus or a peer answers instead of a result. */
export class CallError extends Error {
	constructor(code: string, message: string, retryable?: boolean);
	/** NOT_FOUND, FORBIDDEN, INVALID_INPUT, INTERNAL, TIMEOUT, UNAVAILABLE, OVERLOADED, or a peer's own. */
	readonly code: string;
	readonly retryable: boolean;
}

/** An event of the bus. `type` is what was listened for, `topic` what it was: they differ where that was a pattern. */
export class AlknetEvent<T = unknown> extends Event {
	readonly topic: string;
	readonly id: string;
	readonly detail: T;
}

export interface Envelope<T = unknown> {
	type: string;
	id: string;
	payload: T;
}

/** A stream of Node.js, as far as it is needed. */
export interface NodeDuplex {
	on(event: string, listener: (...args: any[]) => void): unknown;
	once(event: string, listener: (...args: any[]) => void): unknown;
	/** If there is one that gives a promise it is how the stream is closed. */
	close?(): unknown;
	write(chunk: Uint8Array, callback: (error?: Error | null) => void): unknown;
	end(callback?: () => void): unknown;
	destroy(error?: Error): unknown;
	readonly destroyed: boolean;
}

/** Streams of a browser. */
export interface WebDuplex {
	readonly readable: ReadableStream<any>;
	readonly writable: WritableStream<any>;
}

export interface SubscribeOptions {
	/** Of all subscriptions with this pattern and group one gets each event. */
	group?: string;
	/**
	 * 'last': the retained values first. Of durable topics (a bus on NATS): 'all', or since when (a Date, or milliseconds
	 * since 1970). Not with a group.
	 */
	replay?: 'last' | 'all' | number | Date;
	signal?: AbortSignal;
	/** Events that may wait; past it the oldest go (an event 'dropped'). 4096. */
	maxQueue?: number;
}

export interface CallOptions {
	signal?: AbortSignal;
	/** Milliseconds, by this program's clock: then the call is aborted, and rejected with the CallError TIMEOUT. */
	timeout?: number;
	/** Or when, by the server's clock: milliseconds since 1970. */
	deadline?: number | Date;
}

export interface Subscription<T = unknown> extends AsyncIterableIterator<Envelope<T>> {
	/** The bus has it. */
	readonly ready: Promise<void>;
	/** Events that had to go, because too many waited. */
	readonly dropped: number;
}

export interface HandlerContext {
	/** Aborted when nobody waits for the answer any more. */
	signal: AbortSignal;
	id: string;
}

export type Handler = (input: any, context: HandlerContext) => unknown;

export interface Operation {
	handler: Handler;
	/** 'query' if left out. A subscription's handler gives an async iterable. */
	type?: 'query' | 'mutation' | 'subscription';
	inputSchema?: object | boolean;
	outputSchema?: object | boolean;
	requiredScopes?: string[];
	requiredScopesAny?: string[];
}

type Listener<E extends Event> = ((event: E) => void) | { handleEvent(event: E): void } | null;

/** The bus: docs/BUS.md. */
export class AlknetEventTarget extends EventTarget {
	constructor(options: { stream: NodeDuplex | WebDuplex });
	readonly closed: boolean;
	/** Bytes that the stream has not taken yet. */
	readonly bufferedAmount: number;
	/** Publishes the event: its type, and a CustomEvent's detail. */
	dispatchEvent(event: Event): boolean;
	/**
	 * Subscribes. The target's own events are 'error' (detail is the Error: of what nobody waits for, and of an end that
	 * close() did not ask for), 'close' (the last one) and 'dropped' (detail is { count }: too many waited).
	 */
	addEventListener(type: string, listener: Listener<AlknetEvent<any>>, options?: boolean | AddEventListenerOptions): void;
	removeEventListener(type: string, listener: Listener<AlknetEvent<any>>, options?: boolean | EventListenerOptions): void;
	/** Publish; resolves when the stream has taken it. */
	publish(type: string, payload?: unknown, options?: { id?: string }): Promise<void>;
	/** Every subscription that was asked for stands. */
	settled(): Promise<void>;
	/** Ends with close(); throws the CallError UNAVAILABLE when the stream ended by itself. */
	subscribe<T = unknown>(pattern: string, options?: SubscribeOptions): Subscription<T>;
	/** Rejected with a CallError: what the operation answered, or UNAVAILABLE when the stream ended. */
	call<T = unknown>(operation: string, input?: unknown, options?: CallOptions): Promise<T>;
	/** The answers of an operation of type subscription. */
	stream<T = unknown>(operation: string, input?: unknown, options?: CallOptions & { maxQueue?: number }): AsyncIterableIterator<T>;
	/** Serve operations as the spoke of this name. */
	register(spoke: string, operations: Record<string, Handler | Operation>): Promise<unknown>;
	/** End the stream: 'close' follows, and no 'error'. */
	close(): Promise<void>;
}

export function createEventTarget(options: { stream: NodeDuplex | WebDuplex }): AlknetEventTarget;
