/** The anchor of a heading as GitHub and npm make it, so that a link between pages works there too. */
export function slugify (heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').trim().replaceAll(' ', '-')
}
