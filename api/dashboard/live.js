// live.js - what happens now.  The events of a job come by long polls: a question that is answered when something has happened.
import { get, passing } from "./api.js";
import { problem } from "./dom.js";

const WAIT = 20;        // seconds that the service may take to answer when nothing happens
const AGAIN = 3000;     // milliseconds after which what failed is tried again
export const TERMINAL = ["succeeded", "failed", "canceled"];

function pause(ms, signal) {
    return new Promise((resolve) => {
        function end() {
            clearTimeout(timer);
            signal.removeEventListener("abort", end);
            resolve();
        }
        const timer = setTimeout(end, ms);
        signal.addEventListener("abort", end);
    });
}

/**
 * Runs step() now and then every `ms` until it returns false or the signal is aborted; not while the page is hidden.
 * What fails and may go well later is told in the element `trouble`, and tried again.
 */
export async function every(ms, signal, trouble, step) {
    let said = null;
    while (!signal.aborted) {
        let failed = null;
        try {
            if (!document.hidden && await step() === false)
                return;
        } catch (e) {
            if (signal.aborted || !passing(e))
                throw e;
            failed = e;
        } finally {
            const now = failed && failed.message;
            if (now !== said)           // else it would be read out again and again
                trouble.replaceChildren(failed ? problem(failed) : "");
            said = now;
        }
        await pause(failed ? Math.max(ms, AGAIN) : ms, signal);
    }
}

/** The events after a seq; with `wait` it takes up to so many seconds until there is one, or the job has ended. */
async function eventsAfter(id, after, wait, signal) {
    const events = [];
    for (let more = true; more; wait = 0) {
        const page = await get(`/v1/jobs/${id}/events?after=${after}&limit=1000&wait=${wait}`, signal);
        events.push(...page.data);
        after = page.data.length ? page.data[page.data.length - 1].seq : after;
        more = page.next_cursor !== null;
    }
    return events;
}

/**
 * Calls update(job, new events) whenever something has happened, until the job has ended.  Events come in order and once each.
 * That a job moves up in the queue is no event.
 */
export async function watchJob(id, signal, trouble, update) {
    let after = 0, first = true, ended = false, place = null;
    await every(200, signal, trouble, async () => {
        const events = await eventsAfter(id, after, first ? 0 : WAIT, signal), job = await get(`/v1/jobs/${id}`, signal);
        ended = TERMINAL.includes(job.state);
        if (ended)          // what was told between the two questions
            events.push(...await eventsAfter(id, events.length ? events[events.length - 1].seq : after, 0, signal));
        after = events.length ? events[events.length - 1].seq : after;
        const ahead = job.queue ? job.queue.ahead : null;
        if (first || events.length || ahead !== place)
            update(job, events);
        first = false;
        place = ahead;
        return !ended;
    });
}
