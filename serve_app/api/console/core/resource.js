// Data that a component loads: `const models = useResource(() => call("GET", "v1/models"), [])`.
import { useEffect, useRef, useState } from "./view.js";
import { isReachable } from "./connection.js";

/**
 * Returns `{data, error, isLoading, reload}`. It loads again when `deps` change, when `reload` is called, and when
 * the service can be reached again.
 *
 * `load` gets an AbortSignal and may call the API with it. Old data stays while new data is loaded with
 * `reload`, so that the page does not flicker.
 */
export function useResource(load, deps) {
  const [state, setState] = useState({ data: null, error: null, isLoading: true });
  const running = useRef(null);
  function reload() {
    running.current?.abort();
    const mine = (running.current = new AbortController());
    return load(mine.signal).then(
      (data) => mine.signal.aborted || setState({ data, error: null, isLoading: false }),
      (error) => mine.signal.aborted || setState((old) => ({ ...old, error, isLoading: false })),
    );
  }
  useEffect(() => {
    setState({ data: null, error: null, isLoading: true });
    reload();
    return () => running.current?.abort();
  }, deps);
  useEffect(() => {
    if (isReachable.value && state.error?.code === "unreachable") reload();
  }, [isReachable.value]);
  return { ...state, reload };
}
