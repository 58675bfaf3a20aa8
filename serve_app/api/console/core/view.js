// The libraries under one name: `html` makes elements, signals are state, hooks belong to one component.
//
// Texts between `${}` become text, never HTML. Nothing here offers another way, and nobody shall add one.
import { Component, Fragment, h, render } from "../vendor/preact.js";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";
import { batch, computed, effect, signal, useComputed, useSignal } from "../vendor/signals.js";

export const html = htm.bind(h);
export {
  Component, Fragment, batch, computed, effect, render, signal, useComputed, useEffect, useLayoutEffect, useMemo,
  useRef, useSignal, useState,
};
