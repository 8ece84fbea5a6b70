/** Connections of the pool. */
export const connections = 10

/**
 * How long each request's statement takes, so that it is the connections that are short, and not the CPU.
 * Milliseconds.
 */
export const work = 40

/** pool.acquireTimeout. Milliseconds. */
export const acquireTimeout = 1000

/** Multiples of the load that the app can bear. */
export const loads = [0.5, 1, 1.5, 2, 3, 5]

/**
 * Each load comes so often; what it is a multiple of is measured anew each time, for others may be at work on the
 * machine.
 */
export const rounds = 3

/** How long that is measured. Milliseconds. */
export const calibration = 2000

/** How long each load lasts, and how much of its beginning is left out, in which the queue fills. Milliseconds. */
export const duration = 5000
export const warmUp = 1500

/** How much of the peak has to be left under overload. */
export const kept = 0.9
