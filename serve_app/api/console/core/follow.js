// Keeps the end of a growing page in view, until the person scrolls up.
const NEAR_PX = 120;

let isFollowing = true;

function isAtEnd() {
  return innerHeight + scrollY >= document.documentElement.scrollHeight - NEAR_PX;
}

addEventListener("scroll", () => (isFollowing = isAtEnd()), { passive: true });

/** Scrolls to the end if the end was in view before the page grew. */
export function follow() {
  if (isFollowing) scrollTo(0, document.documentElement.scrollHeight);
}

/** Scrolls to the end and follows from now on. */
export function followFromNow() {
  isFollowing = true;
  requestAnimationFrame(follow);
}
