// What the checks of a page compare.

/** Throws an error if a value is not the expected one. */
export function expect(actual, expected) {
  if (actual !== expected) throw new Error(`${actual} instead of ${expected}`);
}

/** Throws an error that is not of the expected class. */
export function expectError(error, kind) {
  if (!(error instanceof kind)) throw error;
}

/** Runs a call that must fail. Returns its error. */
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was answered");
}
