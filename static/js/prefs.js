// What this device remembers. Storage may be forbidden or full: then it lasts as long as the page.

const memory = new Map();

export function remember(key, value) {
  memory.set(key, value);
  try {
    localStorage.setItem(`honeycast.${key}`, JSON.stringify(value));
  } catch {
    // The memory above has it.
  }
}

/** What was remembered, if `accept` likes it; anybody may have written into the storage. */
export function recall(key, fallback, accept = () => true) {
  if (memory.has(key)) return memory.get(key);
  try {
    const value = JSON.parse(localStorage.getItem(`honeycast.${key}`));
    if (value !== null && accept(value)) return value;
  } catch {
    // Not ours, or not allowed.
  }
  return fallback;
}
