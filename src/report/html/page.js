'use strict';
(() => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  // Text only ever enters the page as text nodes.
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const number = (value) => (value === null || value === undefined ? '–' : value.toFixed(2));

  // Tables: sorted by pressing a heading, largest first, then smallest first.
  for (const table of document.querySelectorAll('table.sortable')) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const key = (row, column) => {
      const cell = row.cells[column];
      const value = cell.dataset.v;
      if (value === undefined) return cell.textContent;
      return value === '' ? NaN : Number(value);
    };
    headings.forEach((heading, column) => {
      heading.querySelector('button').addEventListener('click', () => {
        const text = column === 0;
        const before = heading.getAttribute('aria-sort');
        const ascending = before ? before === 'descending' : text;
        headings.forEach((other) => other.removeAttribute('aria-sort'));
        heading.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort(([a], [b]) => {
          if (text) return a.localeCompare(b, undefined, { numeric: true }) * (ascending ? 1 : -1);
          if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
          return (a - b) * (ascending ? 1 : -1);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Comparisons: filtered by question, words and certainty.
  const comparisons = byId('comparisons-table');
  if (comparisons) {
    const rows = [...comparisons.tBodies[0].rows];
    const filter = () => {
      const question = byId('question').value;
      const words = byId('find-comparison').value.toLowerCase().split(/\s+/).filter(Boolean);
      const significant = byId('only-significant').checked;
      let shown = 0;
      for (const row of rows) {
        const text = row.cells[0].textContent.toLowerCase();
        const keep = (!question || row.dataset.question === question)
          && words.every((word) => text.includes(word))
          && (!significant || Number(row.dataset.p) < 0.05);
        row.hidden = !keep;
        shown += keep;
      }
      byId('comparisons-shown').textContent = `${shown} of ${rows.length} shown`;
    };
    for (const id of ['question', 'find-comparison', 'only-significant']) byId(id).addEventListener('input', filter);
    filter();
  }

  // The example browser. What belongs to an example is parsed when it is picked.
  const index = read('index');
  const conditions = index.conditions;
  const picker = byId('example');
  const state = { example: 0, condition: 0, against: 0, repeat: 0, turn: 0 };
  const parsed = new Map();
  const details = (example) => {
    if (!parsed.has(example)) parsed.set(example, read(`x${example}`));
    return parsed.get(example);
  };
  const score = (example, condition) => index.examples[example][1][condition];
  const loss = (example) => {
    const [before, after] = [score(example, state.against), score(example, state.condition)];
    return before === null || after === null ? NaN : before - after;
  };
  // The text that a search looks through: the id, the types of the instructions and the prompt.
  const searched = new Map();
  const words = (example) => {
    if (!searched.has(example)) {
      const { prompts, instructions } = details(example);
      const prompt = prompts.find((one) => one);
      const parts = [index.examples[example][0], ...instructions.map((one) => one.type || ''), prompt ? prompt.pieces.join('') : ''];
      searched.set(example, parts.join(' ').toLowerCase());
    }
    return searched.get(example);
  };
  const followed = ([, , strict, , judged]) => (strict !== null ? strict === 1 : judged !== null && judged >= 0.5);
  // Whether some instruction is followed before the cut and not after it.
  const loses = (example) => {
    const data = details(example);
    const [before, after] = [find(data, state.against), find(data, state.condition)];
    return Boolean(before && after) && before.verdicts.some((row) => {
      const other = after.verdicts.find(([at]) => at === row[0]);
      return followed(row) && other && !followed(other);
    });
  };
  let listed = [];
  // More options than this make a browser slow.
  const LISTED = 1000;

  const list = () => {
    const wanted = byId('find-example').value.toLowerCase().split(/\s+/).filter(Boolean);
    const lost = byId('only-lost').checked;
    const order = byId('order').value;
    listed = index.examples.map((_, example) => example)
      .filter((example) => wanted.every((word) => words(example).includes(word)) && (!lost || loses(example)));
    if (order !== 'file') {
      const sign = order === 'loss' ? 1 : -1;
      const rank = new Map(listed.map((example) => [example, loss(example)]));
      listed.sort((a, b) => {
        const [x, y] = [rank.get(a), rank.get(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return (y - x) * sign || a - b;
      });
    }
    const options = listed.slice(0, LISTED).map((example) => {
      const scores = `${number(score(example, state.against))} → ${number(score(example, state.condition))}`;
      return make('option', { value: example }, `${index.examples[example][0]}  ${scores}`);
    });
    picker.replaceChildren(...options);
    picker.value = state.example;
    const rest = listed.length > LISTED ? `; the first ${LISTED} listed, search for the others` : '';
    byId('examples-shown').textContent = `${listed.length} of ${index.examples.length} examples, score before → after${rest}`;
    steps();
  };
  const steps = () => {
    const at = listed.indexOf(state.example);
    byId('previous').disabled = listed.length === 0 || at === 0;
    byId('next').disabled = listed.length === 0 || at === listed.length - 1;
  };
  const step = (by) => {
    const at = listed.indexOf(state.example);
    const target = listed[at < 0 ? 0 : at + by];
    if (target === undefined) return;
    state.example = target;
    picker.value = target;
    pick();
  };

  const find = (data, condition, turn = state.turn) => {
    const trials = data.trials.filter((trial) => trial.condition === condition);
    const repeat = trials.filter((trial) => trial.repeat === state.repeat);
    return repeat.find((trial) => trial.turn === turn) || repeat[repeat.length - 1] || trials[0];
  };
  const failure = (data, condition) => data.failed.find(([failed]) => failed === condition);

  // Positions evicted, from alternating lengths of kept and evicted runs.
  const evictedOf = (trial, length) => {
    const evicted = new Uint8Array(length);
    let at = 0;
    trial.runs.forEach((run, turn) => {
      if (turn % 2) evicted.fill(1, at, at + run);
      at += run;
    });
    return evicted;
  };

  // One of several questions behind what all of them share.
  const asked = (prompt, question) => {
    const [shared, start] = [prompt.questions[0], prompt.questions[question]];
    const end = prompt.questions[question + 1] ?? prompt.pieces.length;
    const spans = prompt.spans.filter(([, , to]) => to <= shared);
    for (const [label, from, to] of prompt.spans) {
      if (from >= start && to <= end) spans.push([label, from - start + shared, to - start + shared]);
    }
    return { pieces: [...prompt.pieces.slice(0, shared), ...prompt.pieces.slice(start, end)], spans, answers: new Map() };
  };

  // A chat as it stood before an answer: the texts of its turns, and between them the earlier answers. An answer has a
  // position for each of its tokens; its whole text stands at the first.
  const said = (data, prompt, trial) => {
    if (prompt.questions.length) return asked(prompt, trial ? trial.turn : 0);
    if (!prompt.turns.length) return { ...prompt, answers: new Map() };
    const [pieces, spans, answers] = [[], [], new Map()];
    const last = trial ? trial.turn : 0;
    prompt.turns.slice(0, last + 1).forEach((start, turn) => {
      const end = turn + 1 < prompt.turns.length ? prompt.turns[turn + 1] : prompt.pieces.length;
      const by = pieces.length - start;
      pieces.push(...prompt.pieces.slice(start, end));
      for (const [label, from, to] of prompt.spans) if (from >= start && to <= end) spans.push([label, from + by, to + by]);
      const answer = turn < last && find(data, trial.condition, turn);
      if (!answer || !answer.tokens) return;
      answers.set(pieces.length, pieces.length + answer.tokens);
      pieces.push(data.strings[answer.response], ...Array(answer.tokens - 1).fill(''));
    });
    return { pieces, spans, answers };
  };

  // What is left of the system turn before each answer of a chat: a strip for each turn, which picks that turn.
  const stripsView = (data) => {
    const prompt = data.prompts[conditions[state.condition].run];
    const system = prompt && prompt.turns.length ? prompt.spans.find(([label]) => label === 'system') : undefined;
    byId('strips').hidden = !system;
    if (!system) return;
    const [, from, to] = system;
    const strip = (turn) => {
      const trial = find(data, state.condition, turn);
      if (!trial || trial.turn !== turn) return [];
      const evicted = evictedOf(trial, to).subarray(from, to);
      const kept = Math.round(100 * (1 - evicted.reduce((sum, one) => sum + one, 0) / (to - from)));
      const bar = make('span', { class: 'strip' });
      for (let at = 0; at < evicted.length;) {
        let end = at;
        while (end < evicted.length && evicted[end] === evicted[at]) end += 1;
        const part = make('span', { class: evicted[at] ? 'gone' : null });
        part.style.flexGrow = end - at;
        bar.append(part);
        at = end;
      }
      const button = make('button', { type: 'button', 'aria-pressed': String(turn === state.turn), title: `Show turn ${turn}` },
        make('span', {}, `turn ${turn}`), bar, make('span', {}, `${kept}%`));
      button.addEventListener('click', () => {
        state.turn = turn;
        byId('turn').value = turn;
        list();
        pick();
      });
      return [button];
    };
    byId('strip-list').replaceChildren(...prompt.turns.flatMap((_, turn) => strip(turn)));
  };

  // In prompts of more tokens than LONG, evicted runs of more than FOLDED are folded.
  const LONG = 200;
  const FOLDED = 24;

  const promptView = (data, trial) => {
    const box = byId('prompt');
    const prompt = data.prompts[conditions[state.condition].run];
    if (!prompt) {
      box.replaceChildren('This run holds no prompts (prompts.jsonl); run it again with this version of kvllama to see them.');
      byId('legend').textContent = '';
      return;
    }
    const { pieces, spans, answers } = said(data, prompt, trial);
    const evicted = trial ? evictedOf(trial, pieces.length) : new Uint8Array(pieces.length);
    const instruction = new Int32Array(pieces.length).fill(-1);
    const template = new Uint8Array(pieces.length);
    for (const [label, start, end] of spans) {
      if (label === 'template' || label === 'bos') template.fill(1, start, end);
      const match = /^instruction:(\d+)$/.exec(label);
      if (match) for (let at = start; at < end; at += 1) if (instruction[at] < 0) instruction[at] = Number(match[1]);
    }
    const fragment = document.createDocumentFragment();
    let at = 0;
    while (at < pieces.length) {
      if (answers.has(at)) {
        const stop = answers.get(at);
        const kept = 1 - evicted.subarray(at, stop).reduce((sum, one) => sum + one, 0) / (stop - at);
        const text = `answer · ${Math.round(100 * kept)}%`;
        fragment.append(make('span', { class: 'instruction said', title: `${Math.round(100 * kept)}% of this answer's tokens are in the cache` },
          make('span', { class: 'badge' }, text), make(kept ? 'span' : 'del', {}, pieces[at])));
        at = stop;
        continue;
      }
      const number = instruction[at];
      let into = fragment;
      let stop = at;
      while (stop < pieces.length && instruction[stop] === number && (stop === at || !answers.has(stop))) stop += 1;
      if (number >= 0) {
        const survival = 1 - evicted.subarray(at, stop).reduce((sum, one) => sum + one, 0) / (stop - at);
        const text = `${number + 1} · ${Math.round(100 * survival)}%`;
        into = make('span', { class: `instruction s${number % 8}`, title: `Instruction ${number + 1}: ${Math.round(100 * survival)}% of its tokens survived` },
          make('span', { class: 'badge' }, text));
        fragment.append(into);
      }
      while (at < stop) {
        let end = at;
        let text = '';
        while (end < stop && evicted[end] === evicted[at] && template[end] === template[at]) {
          text += pieces[end];
          end += 1;
        }
        if (evicted[at]) text = text.replaceAll('\n', '↵\n');
        const part = make(evicted[at] ? 'del' : 'span', { class: template[at] ? 'template' : null }, text);
        const fold = evicted[at] && number < 0 && pieces.length > LONG && end - at > FOLDED;
        into.append(fold ? make('details', { class: 'fold' }, make('summary', {}, `${end - at} tokens evicted`), part) : part);
        at = end;
      }
    }
    box.replaceChildren(fragment);
    // A long prompt opens at its first instruction.
    const first = pieces.length > LONG && box.querySelector('.instruction');
    box.scrollTop = first ? first.getBoundingClientRect().top - box.getBoundingClientRect().top - 48 : 0;
    const lost = evicted.reduce((sum, one) => sum + one, 0);
    byId('legend').textContent = `${lost} of ${pieces.length} tokens evicted: struck out. Instructions are outlined, with the part of them that survived.`;
  };

  // Above this product of lengths two answers are not compared word by word.
  const COMPARED = 4e6;
  // The words of `text` that are not in the longest common subsequence with `other` are marked.
  const marked = (text, other) => {
    const [a, b] = [text, other].map((one) => one.split(/(\s+)/));
    const wide = b.length + 1;
    if (a.length * b.length > COMPARED) return [text];
    const common = new Uint16Array((a.length + 1) * wide);
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        common[i * wide + j] = a[i] === b[j] ? common[(i + 1) * wide + j + 1] + 1
          : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
      }
    }
    const parts = [];
    for (let i = 0, j = 0; i < a.length;) {
      if (j < b.length && a[i] === b[j]) { parts.push(a[i]); i += 1; j += 1; }
      else if (j < b.length && common[i * wide + j + 1] >= common[(i + 1) * wide + j]) j += 1;
      else { parts.push(a[i].trim() ? make('mark', {}, a[i]) : a[i]); i += 1; }
    }
    return parts;
  };

  const answer = (data, condition, trial, note, other) => {
    const facts = [];
    let text = '';
    if (trial) {
      text = data.strings[trial.response];
      facts.push(`score ${number(trial.score)}`, `${trial.tokens} tokens`);
      if (trial.kl !== undefined) facts.push(`KL ${trial.kl.toFixed(3)} per token`);
      if (trial.stop === 'length') facts.push('cut off at the limit');
      if (note) facts.push(note);
    }
    const failed = failure(data, condition);
    const shown = trial
      ? (text === '' ? [make('p', { class: 'empty' }, 'empty answer')]
        : byId('mark').checked && other && other !== trial ? marked(text, data.strings[other.response]) : [text])
      : [make('p', { class: 'empty' }, failed ? `failed: ${data.strings[failed[1]]}` : 'no such trial')];
    return make('article', {},
      make('h4', {}, conditions[condition].words),
      make('p', { class: 'hint' }, facts.join(' · ')),
      make('div', { class: 'text', tabindex: '0', role: 'region', 'aria-label': `Answer under ${conditions[condition].words}` }, ...shown));
  };

  // A kwarg's value: texts in quotes, lists with commas.
  const plain = (value) => (Array.isArray(value) ? value.map(plain).join(', ') : JSON.stringify(value));

  const verdict = (data, trial, instruction) => {
    const row = trial && trial.verdicts.find(([at]) => at === instruction);
    if (!row) return make('td', {}, '–');
    const [, , strict, loose, judged, reason, value, why] = row;
    const cell = make('td', {});
    if (strict !== null) {
      const partly = !strict && value > 0;
      cell.append(make('span', { class: strict ? 'pass' : 'fail' }, strict ? '✓ followed' : partly ? `followed in part: ${number(value)}` : '✗ not followed'));
      if (why !== null) cell.append(make('span', { class: 'sub' }, data.strings[why]));
      if (loose !== null && loose !== strict) cell.append(make('span', { class: 'sub' }, loose ? 'followed when read loosely' : 'not when read loosely'));
    } else if (judged === null && value === null) {
      cell.append('not scored');
    }
    if (judged !== null) {
      const good = judged >= 0.5;
      cell.append(make('span', { class: strict === null ? (good ? 'pass' : 'fail') : 'sub' }, `${strict === null ? (good ? '✓ ' : '✗ ') : ''}judge ${number(judged)}`));
      if (reason !== null) cell.append(make('span', { class: 'sub' }, data.strings[reason]));
    }
    return cell;
  };

  const verdicts = (data, before, after) => {
    const numbers = [...new Set([...(before ? before.verdicts : []), ...(after ? after.verdicts : [])].map(([at]) => at))].sort((a, b) => a - b);
    const rows = numbers.map((at) => {
      const instruction = data.instructions[at] || {};
      const kept = after && after.verdicts.find(([other]) => other === at);
      const survival = kept && kept[1] !== null ? `${Math.round(100 * kept[1])}%` : '–';
      return make('tr', {},
        make('th', { scope: 'row' }, make('span', { class: `badge s${at % 8}` }, String(at + 1)), ` ${instruction.text || instruction.rubric || instruction.type || ''}`,
          instruction.text || instruction.rubric ? make('span', { class: 'sub' }, instruction.type) : null,
          ...Object.entries(instruction.kwargs || {}).filter(([, value]) => value !== null)
            .map(([name, value]) => make('span', { class: 'sub' }, `${name}: ${plain(value)}`))),
        make('td', { class: 'num' }, survival), verdict(data, before, at), verdict(data, after, at));
    });
    const heading = (text, type) => make('th', { scope: 'col', class: type }, text);
    byId('verdicts').replaceChildren(
      make('caption', { class: 'unseen' }, 'Each instruction: how much of it survived, and whether it was followed.'),
      make('thead', {}, make('tr', {}, heading('instruction'), heading('survived', 'num'),
        heading(conditions[state.against].words), heading(conditions[state.condition].words))),
      make('tbody', {}, ...rows));
  };

  // The command that repeats a trial, as a shell takes it.
  const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  const rangesOf = (trial) => {
    const ranges = [];
    let at = 0;
    trial.runs.forEach((run, turn) => {
      if (turn % 2) ranges.push(`${at}..${at + run}`);
      at += run;
    });
    return ranges.join(',');
  };
  const probe = (id, trial) => {
    const { run, options } = conditions[trial.condition];
    const eviction = options || ['--evict', rangesOf(trial)];
    return ['kvllama', 'probe', ...index.probes[run], '--example', id, ...eviction, '--seed', String(trial.seed)].map(quoted).join(' ');
  };
  byId('copy-probe').addEventListener('click', () => {
    const code = byId('probe-command');
    const say = (text) => { byId('copied').textContent = text; };
    // Some viewers forbid copying; then the command is at least selected.
    getSelection().selectAllChildren(code);
    say('selected');
    navigator.clipboard?.writeText(code.textContent).then(() => say('copied'), () => {});
  });

  const place = () => {
    const place = new URLSearchParams({ example: index.examples[state.example][0], condition: conditions[state.condition].key, against: conditions[state.against].key });
    if (state.repeat) place.set('repeat', state.repeat);
    if (state.turn) place.set('turn', state.turn);
    return place;
  };

  const show = () => {
    const data = details(state.example);
    const [before, after] = [find(data, state.against), find(data, state.condition)];
    const [id] = index.examples[state.example];
    const same = before && after && before.response === after.response && state.against !== state.condition;
    byId('verdict').textContent = `${id} under ${conditions[state.condition].words}: score ${number(after ? after.score : null)}; `
      + `under ${conditions[state.against].words}: ${number(before ? before.score : null)}.`;
    stripsView(data);
    promptView(data, after);
    byId('answers').replaceChildren(
      answer(data, state.against, before, '', after),
      answer(data, state.condition, after, same ? 'the same answer, letter by letter' : '', before));
    byId('link').href = `#${place()}`;
    byId('probe').hidden = !after || after.turn > 0; // probe knows no chat beyond its first prompt
    byId('probe-command').textContent = after ? probe(id, after) : '';
    byId('copied').textContent = '';
    verdicts(data, before, after);
    steps();
  };

  // The address names what is shown, for links; until something is picked it stays as it was.
  const remember = () => {
    try { history.replaceState(null, '', `#${place()}`); } catch { /* some viewers forbid it; only the link is lost */ }
  };

  const pick = () => { show(); remember(); };

  const start = () => {
    const options = () => conditions.map((condition, at) => make('option', { value: at }, condition.words));
    byId('condition').append(...options());
    byId('against').append(...options());
    for (let repeat = 0; repeat < index.repeats; repeat += 1) byId('repeat').append(make('option', { value: repeat }, String(repeat)));
    byId('repeat-label').hidden = index.repeats < 2;
    for (let turn = 0; turn < index.turns; turn += 1) byId('turn').append(make('option', { value: turn }, String(turn)));
    byId('turn-label').hidden = index.turns < 2;
    if (index.asks) byId('turn-label').firstChild.textContent = 'Question ';
    state.condition = index.condition;
    state.against = index.against;
    const place = new URLSearchParams(location.hash.slice(1));
    const asked = place.has('example');
    const position = (key) => conditions.findIndex((condition) => condition.key === place.get(key));
    if (asked) {
      state.example = Math.max(0, index.examples.findIndex(([id]) => id === place.get('example')));
      if (position('condition') >= 0) state.condition = position('condition');
      if (position('against') >= 0) state.against = position('against');
      state.repeat = Number(place.get('repeat')) || 0;
      state.turn = Number(place.get('turn')) || 0;
    }
    byId('condition').value = state.condition;
    byId('against').value = state.against;
    byId('repeat').value = state.repeat;
    byId('turn').value = state.turn;
    const change = (id, key, relist) => byId(id).addEventListener('change', (event) => {
      state[key] = Number(event.target.value);
      if (relist) list();
      pick();
    });
    change('condition', 'condition', true);
    change('against', 'against', true);
    change('repeat', 'repeat', true);
    change('turn', 'turn', true);
    picker.addEventListener('change', () => { state.example = Number(picker.value); pick(); });
    byId('find-example').addEventListener('input', list);
    byId('order').addEventListener('input', list);
    byId('only-lost').addEventListener('input', list);
    byId('mark').addEventListener('input', show);
    byId('previous').addEventListener('click', () => step(-1));
    byId('next').addEventListener('click', () => step(1));
    document.querySelector('.browser').hidden = false;
    list();
    show();
    if (asked) byId('browser').scrollIntoView();
  };
  start();
})();
