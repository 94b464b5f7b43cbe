/** Tells whoever listens, as soon as what is under way is done: a listener that throws holds up nobody. */
export class Emitter<E> {
  #calls = new Map<keyof E, Set<(event: never) => void>>();

  /** Listens; returns what ends that. */
  on<K extends keyof E>(name: K, call: (event: E[K]) => void): () => void {
    const calls = this.#calls.get(name) ?? new Set();
    this.#calls.set(name, calls.add(call));
    return () => void calls.delete(call);
  }

  protected emit<K extends keyof E>(name: K, event?: E[K]): void {
    for (const call of this.#calls.get(name) ?? []) queueMicrotask(() => (call as (event?: E[K]) => void)(event));
  }
}
